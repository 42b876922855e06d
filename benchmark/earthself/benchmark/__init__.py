"""The Cloud Suggest Engine: what clouds are measured to do, what they cost, and where a service should run."""
