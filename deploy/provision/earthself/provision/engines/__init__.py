"""The engines that make environments."""
