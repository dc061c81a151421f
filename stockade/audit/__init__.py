"""The one interface through which every decision and every management change is recorded."""
