// The allocator of Kubernetes 1.35 with default feature gates, asked over JSON lines (package oracle).
package main

import (
	"k8s.io/dynamic-resource-allocation/structured"

	"slicewise.local/oracle"
)

func main() {
	oracle.Serve(oracle.Version{
		// The stable allocator of 1.35 supports no feature at all, so the incubating one runs.
		Features:     structured.Features{AdminAccess: true, PrioritizedList: true},
		OnlyThisNode: structured.ErrFailedAllocationOnNode,
	})
}
