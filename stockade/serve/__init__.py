"""Running the platform: first start, certificates, and the processes that listen."""
