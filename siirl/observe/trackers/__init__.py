"""Where metrics go besides ``metrics.jsonl``: the console, TensorBoard, W&B, SwanLab and Trackio."""
