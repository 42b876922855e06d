"""Where data come from and go to: sources, storage profiles, workspaces, manifests, and what every layer must agree on."""
