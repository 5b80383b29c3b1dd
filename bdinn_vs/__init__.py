"""The VapourSynth front. `core.bdinn.Deband` isn't here yet; use `bdinn_core` or `bdinn-video`."""

__all__: list[str] = []
