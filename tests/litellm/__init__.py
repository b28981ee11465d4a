"""What idsync rests on at a LiteLLM proxy, by its management API alone: at the sandbox, or at a real one."""
