"""A page on this machine that draws what is typed: `make demo`, or `kd demo`. It needs the extra `demo` (gradio)."""
