"""What a recipe names: losses, transforms, models, processes, data; nothing that reads one."""
