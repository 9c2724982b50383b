"""What helix-fast is compared with: written as a good engineer would, without our tricks."""
