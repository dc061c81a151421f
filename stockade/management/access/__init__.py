"""What has to be asked for: the SKU E0, who decides, and the queue for it."""
