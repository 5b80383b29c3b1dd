"""Evaluates a script again and again in one process, as an editor's reload does; prints what's left.

Run as a program: VapourSynth's environment policy can be set once a process. Prints JSON: resident
bytes after each evaluation, and the cores and models still alive at the end.
"""

import gc
import json
import os
import sys
import weakref

import vapoursynth as vs

SCRIPT = """
import vapoursynth as vs
clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=128, height=96, length=4, color=[60, 120, 130])
clip.bdinn.Deband(output_depth=10, props=1).set_output()
"""


class Policy(vs.EnvironmentPolicy):
    """One environment at a time."""

    def on_policy_registered(self, special_api):
        self.api = special_api
        self.current = None

    def on_policy_cleared(self):
        self.current = None

    def get_current_environment(self):
        return self.current

    def set_environment(self, environment):
        before, self.current = self.current, environment
        return before

    def is_alive(self, environment):
        return True


def evaluate(policy):
    """One evaluation of the script, one frame of it; returns weak references to its environment and core."""
    data = policy.api.create_environment()
    with policy.api.wrap_environment(data).use():
        exec(compile(SCRIPT, "script.vpy", "exec"), {"__name__": "__vapoursynth__"})
        output = vs.get_output()
        assert isinstance(output, vs.VideoOutputTuple)
        output.clip.get_frame(1).close()
        core = weakref.ref(vs.core.core)
        del output
    policy.api.destroy_environment(data)
    return weakref.ref(data), core


def resident():
    """Bytes of memory in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    policy = Policy()
    vs.register_policy(policy)
    alive, memory = [], []
    for _ in range(int(sys.argv[1])):
        alive += evaluate(policy)
        memory.append(resident())
    gc.collect()
    from bdinn_core import engine

    left = sum(reference() is not None for reference in alive)
    json.dump({"memory": memory, "alive": left, "models": len(engine._networks)}, sys.stdout)


main()
