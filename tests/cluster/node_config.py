"""What a node's containerd, kubelet, kube-proxy and CNI are told. Pure: from names and numbers to text.

Inside a node, `/run/node` is the node's directory of the cluster's state, and `/run/images` the archives to import.
"""

from __future__ import annotations

import json

from tests.cluster.images import PAUSE
from tests.cluster.layout import CONTROL_PLANE_IP, DNS_DOMAIN, POD_CIDR, node_name, pod_subnet

HERE = "/run/node"
IMAGES = "/run/images"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
BOUND = {
    "/var/lib/kubelet": "kubelet",
    "/var/lib/containerd": "containerd",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pod-logs",
    "/var/log/containers": "container-logs",
    "/var/lib/volumes": "volumes",
}
"""Directories of a node that are its own, and where they lie on its disk."""


def containerd_toml() -> str:
    """containerd 1.6: no registry, no TCP, and no lowering of the OOM score (that needs CAP_SYS_RESOURCE)."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{HERE}/cni.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def cni_conflist(number: int) -> str:
    """A bridge per node; the routes between nodes are the LAN's. Enforces no NetworkPolicy, knows no hostPort."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pod_subnet(number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}, indent=2)


def kubelet_config(cgroup_root: str) -> str:
    """The kubelet's configuration; `cgroup_root` is the node's top cgroup without a slash."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{HERE}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup_root}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "featureGates": {"KubeletInUserNamespace": True},
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "resolvConf": f"{HERE}/resolv.conf",
            "clusterDNS": [CONTROL_PLANE_IP],
            "clusterDomain": DNS_DOMAIN,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 16,
            "serializeImagePulls": False,
            "maxPods": 200,
        },
        indent=2,
    )


def proxy_config(number: int) -> str:
    """kube-proxy by nftables, and no limits of conntrack (those need rights this machine does not give)."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": f"{HERE}/proxy.kubeconfig"},
            "hostnameOverride": node_name(number),
            "clusterCIDR": POD_CIDR,
            "oomScoreAdj": 0,
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "nftables": {"minSyncPeriod": "100ms"},
        },
        indent=2,
    )


def resolv_conf() -> str:
    """What a pod with the node's own DNS settings gets."""
    return f"nameserver {CONTROL_PLANE_IP}\n"
