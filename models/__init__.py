"""From pixels to vectors: weights, encoders, fine-tuning, embedding."""
