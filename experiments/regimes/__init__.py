"""Where an MoE wins: maps, gradients of sparsity, hardware."""
