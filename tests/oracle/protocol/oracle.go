// Package oracle answers allocation questions with the real allocator of Kubernetes'
// dynamic resource allocation, k8s.io/dynamic-resource-allocation/structured.
//
// Protocol: JSON lines. Each line on standard input is one case, each line on standard
// output its answers, in the same order; output is flushed after every case, and the
// program ends when standard input does.
//
// A case:
//
//	{
//	  "id":        7,                                   // given back as it is
//	  "node":      {"name": "n1", "labels": {}},        // the node asked about
//	  "slices":    [ResourceSlice, ...],                // resource.k8s.io/v1, in the order of the lister
//	  "classes":   [DeviceClass, ...],
//	  "claims":    [DeviceClaim, ...],                  // spec.devices of each claim of the pod, in pod order
//	  "allocated": [{"driver", "pool", "device"}, ...], // held by others, not shareable
//	  "consumed":  [{"driver", "pool", "device", "capacity": {name: quantity}}, ...], // shares held by others
//	  "repeat":    4,                                   // how often to ask (at least once)
//	  "timeoutMilliseconds": 2000                       // for each time; 0 = 10 s, as the scheduler
//	}
//
// An answer line holds every distinct answer, because versions before 1.36 take pools in
// the random order of a Go map:
//
//	{"id": 7, "allocator": "...", "answers": [ANSWER, ...]}
//
// An ANSWER has an "outcome":
//
//	"allocated": "claims" has for each claim its results: request ("name" or "name/alternative"),
//	             driver, pool, device, adminAccess, consumedCapacity {name: quantity}
//	"none":      nothing on this node; "message" is set when invalid pools were met
//	"error":     scheduling of the pod would be aborted; "message" says why
//	"timeout":   the search did not end in time
//
// A line that is no case ends the program with a message on standard error and status 2.
package oracle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

type node struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

type device struct {
	Driver   string                                          `json:"driver"`
	Pool     string                                          `json:"pool"`
	Device   string                                          `json:"device"`
	Capacity map[resourceapi.QualifiedName]resource.Quantity `json:"capacity"`
}

func (d device) id() structured.DeviceID {
	return structured.MakeDeviceID(d.Driver, d.Pool, d.Device)
}

type question struct {
	ID                  int                          `json:"id"`
	Node                node                         `json:"node"`
	Slices              []*resourceapi.ResourceSlice `json:"slices"`
	Classes             []*resourceapi.DeviceClass   `json:"classes"`
	Claims              []resourceapi.DeviceClaim    `json:"claims"`
	Allocated           []device                     `json:"allocated"`
	Consumed            []device                     `json:"consumed"`
	Repeat              int                          `json:"repeat"`
	TimeoutMilliseconds int                          `json:"timeoutMilliseconds"`
}

type result struct {
	Request          string                                          `json:"request"`
	Driver           string                                          `json:"driver"`
	Pool             string                                          `json:"pool"`
	Device           string                                          `json:"device"`
	AdminAccess      bool                                            `json:"adminAccess"`
	ConsumedCapacity map[resourceapi.QualifiedName]resource.Quantity `json:"consumedCapacity,omitempty"`
}

type answer struct {
	Outcome string     `json:"outcome"`
	Message string     `json:"message,omitempty"`
	Claims  [][]result `json:"claims,omitempty"`
}

type answers struct {
	ID        int               `json:"id"`
	Allocator string            `json:"allocator"`
	Answers   []json.RawMessage `json:"answers"`
}

type classes map[string]*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) {
	var all []*resourceapi.DeviceClass
	for _, class := range c {
		all = append(all, class)
	}
	return all, nil
}

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	if class, found := c[name]; found {
		return class, nil
	}
	return nil, fmt.Errorf("device class %q not found", name)
}

// Version is what differs between Kubernetes versions.
type Version struct {
	// Features are those that the scheduler hands to the allocator with default feature gates.
	Features structured.Features
	// Cel are the features of device selectors with default feature gates.
	Cel cel.Features
	// OnlyThisNode is the error that rules out one node only; nil where there is none.
	OnlyThisNode error
}

// Serve answers cases from standard input until it ends.
func Serve(version Version) {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	cache := cel.NewCache(1000, version.Cel)
	for number := 1; ; number++ {
		line, err := input.ReadBytes('\n')
		if len(line) > 0 {
			var q question
			if err := json.Unmarshal(line, &q); err != nil {
				fail("line %d is no case: %v", number, err)
			}
			encoded, err := json.Marshal(q.answer(version, cache))
			if err != nil {
				fail("line %d: %v", number, err)
			}
			_, _ = output.Write(append(encoded, '\n'))
			if err := output.Flush(); err != nil {
				fail("line %d: %v", number, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fail("line %d: %v", number, err)
		}
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "dra oracle: "+format+"\n", arguments...)
	os.Exit(2)
}

func (q *question) answer(version Version, cache *cel.Cache) answers {
	found := answers{ID: q.ID}
	seen := sets.New[string]()
	for range max(q.Repeat, 1) {
		one, kind := q.ask(version, cache)
		found.Allocator = kind
		encoded, err := json.Marshal(one)
		if err != nil {
			fail("case %d: %v", q.ID, err)
		}
		if text := string(encoded); !seen.Has(text) {
			seen.Insert(text)
			found.Answers = append(found.Answers, encoded)
		}
		if one.Outcome == "timeout" {
			break
		}
	}
	return found
}

// ask runs the allocator once, with state of its own: it keeps counters between calls.
func (q *question) ask(version Version, cache *cel.Cache) (answer, string) {
	timeout := time.Duration(q.TimeoutMilliseconds) * time.Millisecond
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	listed := make(classes, len(q.Classes))
	for _, class := range q.Classes {
		listed[class.Name] = class
	}
	allocator, err := structured.NewAllocator(ctx, version.Features, q.state(), listed, q.Slices, cache)
	if err != nil {
		fail("case %d: %v", q.ID, err)
	}
	claims := make([]*resourceapi.ResourceClaim, len(q.Claims))
	for i := range q.Claims {
		claims[i] = &resourceapi.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("claim-%d", i), Namespace: "default"},
			Spec:       resourceapi.ResourceClaimSpec{Devices: q.Claims[i]},
		}
	}
	asked := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: q.Node.Name, Labels: q.Node.Labels}}
	allocated, err := allocator.Allocate(ctx, asked, claims)
	kind := fmt.Sprintf("%T", allocator)
	switch {
	case ctx.Err() != nil:
		return answer{Outcome: "timeout"}, kind
	case err != nil && version.OnlyThisNode != nil && errors.Is(err, version.OnlyThisNode):
		return answer{Outcome: "none", Message: err.Error()}, kind
	case err != nil:
		return answer{Outcome: "error", Message: err.Error()}, kind
	case allocated == nil:
		return answer{Outcome: "none"}, kind
	}
	return answer{Outcome: "allocated", Claims: results(allocated)}, kind
}

func (q *question) state() structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, d := range q.Allocated {
		state.AllocatedDevices.Insert(d.id())
	}
	for i, d := range q.Consumed {
		share := types.UID(fmt.Sprintf("share-%d", i))
		state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(d.id(), &share))
		if len(d.Capacity) > 0 {
			state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(d.id(), d.Capacity))
		}
	}
	return state
}

func results(allocated []resourceapi.AllocationResult) [][]result {
	claims := make([][]result, len(allocated))
	for i, claim := range allocated {
		claims[i] = make([]result, len(claim.Devices.Results))
		for j, taken := range claim.Devices.Results {
			claims[i][j] = result{
				Request:          taken.Request,
				Driver:           taken.Driver,
				Pool:             taken.Pool,
				Device:           taken.Device,
				AdminAccess:      taken.AdminAccess != nil && *taken.AdminAccess,
				ConsumedCapacity: taken.ConsumedCapacity,
			}
		}
	}
	return claims
}
