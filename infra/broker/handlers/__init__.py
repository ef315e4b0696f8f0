"""The APIs, one module a family: `async def name(broker, call) -> response or None`."""
