"""Training a small world model on recorded rollouts: an autoencoder of frames, the transformer that imagines latents, and the
classifier that sees success, one after the other. `siirl.client.train_world_model` is the command."""
