"""The subcommands of ``mixacm``, a module each."""
