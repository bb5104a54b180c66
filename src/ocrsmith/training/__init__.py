"""Fine-tuning with LoRA: from a dataset and a base model to a run folder with the best adapter."""
