"""Stand-ins for the folders and files that config values point to."""

from pathlib import Path


def policy_folder(tmp_path: Path) -> Path:
    """A folder that looks like a policy to the config's checks, which read nothing of it."""
    folder = tmp_path / "policy"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def path_override(tmp_path: Path) -> str:
    """The override that names `policy_folder`."""
    return f"actor_rollout_ref.model.path={policy_folder(tmp_path)}"
