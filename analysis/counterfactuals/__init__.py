"""What edited levels and patched activations show: goal misgeneralisation, interchange, single edits."""
