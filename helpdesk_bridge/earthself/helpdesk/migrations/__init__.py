"""Changes of the tables of services, needs and requests."""
