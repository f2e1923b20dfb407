"""Whether everything that a run needs is ready: the rules behind `ignition doctor`."""
