"""Contrastive training: who is whose negative, the losses, gradients of large batches in little memory."""
