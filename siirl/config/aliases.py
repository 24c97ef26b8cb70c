"""Other spellings of our keys, as published configs write them: accepted wherever a key is, in YAML and on the command line."""

ALIASES = {
    "cluster.num_nodes": "trainer.nnodes",
    "cluster.num_gpus_per_node": "trainer.n_gpus_per_node",
    "rollout.pipeline_stage_num": "actor_rollout_ref.rollout.pipeline_stage_num",
}
"""Spelling → our key. Both may be given at once as long as they agree."""


def our_key(name: str) -> str:
    """The key that ``name`` means: ``name`` itself, unless it is another spelling."""
    return ALIASES.get(name, name)
