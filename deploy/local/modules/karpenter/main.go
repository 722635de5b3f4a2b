// Karpenter of the pinned version with its simulated cloud, for clusters of simulated nodes.
//
// It is put together as Karpenter's own kwok/main.go, and differs in one thing. The simulated cloud launches
// the cheapest offering of a NodeClaim by its own price list, and so never sees what a NodeOverlay says of a
// price. Here it launches the cheapest by the prices with overlays, as the provider for AWS does where
// a NodeClaim was priced with one (there: CreateFleet with the prices as priorities).
package main

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	"sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"
	"sigs.k8s.io/karpenter/pkg/scheduling"
)

// byOverlaidPrice launches what is cheapest with all NodeOverlays counted.
type byOverlaidPrice struct {
	cloudprovider.CloudProvider
	reader client.Reader
}

// Create hands a NodeClaim on that has one instance type, zone and capacity type left: the cheapest offering.
func (c byOverlaidPrice) Create(ctx context.Context, claim *v1.NodeClaim) (*v1.NodeClaim, error) {
	pool := &v1.NodePool{}
	name := types.NamespacedName{Name: claim.Labels[v1.NodePoolLabelKey]}
	if err := c.reader.Get(ctx, name, pool); err != nil {
		return nil, fmt.Errorf("reading the node pool of a node claim, %w", err)
	}
	known, err := c.GetInstanceTypes(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("listing instance types, %w", err)
	}
	wanted := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	var machine *cloudprovider.InstanceType
	var cheapest *cloudprovider.Offering
	for _, one := range known {
		if !wanted.Get(corev1.LabelInstanceTypeStable).Has(one.Name) {
			continue
		}
		for _, offering := range one.Offerings.Available().Compatible(wanted) {
			if cheapest == nil || offering.Price < cheapest.Price {
				machine, cheapest = one, offering
			}
		}
	}
	if cheapest == nil {
		return nil, cloudprovider.NewInsufficientCapacityError(fmt.Errorf("no offering for node claim %q", claim.Name))
	}
	narrowed := claim.DeepCopy()
	wanted.Add(scheduling.NewRequirement(corev1.LabelInstanceTypeStable, corev1.NodeSelectorOpIn, machine.Name))
	wanted.Add(cheapest.Requirements.Values()...)
	narrowed.Spec.Requirements = wanted.NodeSelectorRequirements()
	return c.CloudProvider.Create(ctx, narrowed)
}

func main() {
	ctx, op := operator.NewOperator()
	instanceTypes, err := kwok.ConstructInstanceTypes(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "instance types: %v\n", err)
		os.Exit(1)
	}
	listed := kwok.NewCloudProvider(ctx, op.GetClient(), instanceTypes)
	cloud := byOverlaidPrice{overlay.Decorate(listed, op.GetClient(), op.InstanceTypeStore), op.GetClient()}
	cluster := state.NewCluster(op.Clock, op.GetClient(), cloud)
	op.WithControllers(ctx, controllers.NewControllers(
		ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder, cloud, listed, cluster, op.InstanceTypeStore,
	)...).Start(ctx)
}
