"""ManiSkill's table-top tasks of a Franka arm that need no downloads."""

from siirl.envs.maniskill.suites import SUITES, Suite

WRIST = {"robot_uids": "panda_wristcam"}
"""The Franka arm with a camera on its hand, which ManiSkill lets only some tasks use."""
NO_WRIST = {"robot_uids": "panda"}

for _suite in (
    Suite("PickCube-v1", ("pick up the red cube and move it to the green sphere",), 50),
    Suite("PushCube-v1", ("push the cube to the red and white target",), 50),
    Suite("PullCube-v1", ("pull the cube to the red and white target",), 50),
    Suite("StackCube-v1", ("stack the red cube on the green cube",), 50, settings=NO_WRIST, wrist=WRIST),
    Suite("PegInsertionSide-v1", ("insert the peg into the hole in the box",), 100, wrist=WRIST, rebuilds=True),
    Suite("PlaceSphere-v1", ("place the blue sphere in the bin",), 50),
    Suite("LiftPegUpright-v1", ("lift the peg and stand it upright",), 50),
    Suite("PokeCube-v1", ("poke the cube with the peg",), 50),
):
    SUITES.register(_suite.name)(_suite)
