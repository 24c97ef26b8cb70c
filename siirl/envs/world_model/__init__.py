"""World models as environments: a video model imagines what a simulator would show, a classifier says when the goal is reached.

`base.py` holds slots, memories, rewards and time limits, whatever the model; a backend is one file of `siirl.envs` that
registers a `WorldModelEnv` and loads its model. `initial_states.py` holds the frames that episodes start from. `opensora.py`
is the model of `siirl.envs.opensora_wm`, with its parts in the other files.
"""
