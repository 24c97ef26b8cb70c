"""Videos of episodes, off the hot path.

Where an episode ran, `recorder.Recorder` draws and encodes it in the background while it may still be among the chosen ones
(`choice`). When a rollout is over, `shelf.Shelf` on the driver says which they are, fetches the finished files' bytes and writes
them, in a thread of its own.
"""
