//go:build tools

// Package tools pins the Prometheus server that the local control plane runs.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
