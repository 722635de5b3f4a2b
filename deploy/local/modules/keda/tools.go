//go:build tools

// Package tools pins KEDA, whose operator and metrics adapter read our decisions through its external scaler.
package tools

import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
)
