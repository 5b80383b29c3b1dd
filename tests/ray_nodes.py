"""Two machines of a Ray cluster on this one, on the loopback: `python ray_nodes.py [FOLDER TO HIDE]`.

Prints the address. `kill` on standard input kills the second; at its end both are stopped.
"""

import os
import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()
    os._exit(0)  # Ray's threads would wait for what is gone


if __name__ == "__main__":
    main()
