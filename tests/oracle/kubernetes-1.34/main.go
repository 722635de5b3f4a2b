// The allocator of Kubernetes 1.34 with default feature gates, asked over JSON lines (package oracle).
package main

import (
	"k8s.io/dynamic-resource-allocation/structured"

	"slicewise.local/oracle"
)

func main() {
	oracle.Serve(oracle.Version{
		// DRAResourceClaimDeviceStatus is on since 1.33, and in 1.34 the scheduler hands it over by itself:
		// only the experimental allocator knows it.
		Features: structured.Features{AdminAccess: true, DeviceStatus: true, PrioritizedList: true},
	})
}
