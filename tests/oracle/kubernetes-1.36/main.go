// The allocator of Kubernetes 1.36 with default feature gates, asked over JSON lines (package oracle).
package main

import (
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"

	"slicewise.local/oracle"
)

func main() {
	oracle.Serve(oracle.Version{
		Features: structured.Features{
			AdminAccess:            true,
			ConsumableCapacity:     true,
			DeviceBindingAndStatus: true,
			DeviceTaints:           true,
			PartitionableDevices:   true,
			PrioritizedList:        true,
		},
		Cel:          cel.Features{EnableConsumableCapacity: true},
		OnlyThisNode: structured.ErrFailedAllocationOnNode,
	})
}
