//go:build tools

// Package tools pins the program that starts the containers of a real node.
package tools

import (
	_ "github.com/opencontainers/runc"
)
