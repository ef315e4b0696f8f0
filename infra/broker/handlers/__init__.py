"""One module a family of APIs: `async def name(broker, call) -> response or None`."""
