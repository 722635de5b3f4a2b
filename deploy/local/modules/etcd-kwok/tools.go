//go:build tools

// Package tools pins the cluster store and the simulated kubelet that the local control plane runs.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
