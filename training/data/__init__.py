"""What the trainings read: samples of the shards as tensors, and which frames of them."""
