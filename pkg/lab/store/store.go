package store

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/pkg/report"
)

// Object is any object of the store.
type Object = client.Object

// View is a consistent state of the store; neither it nor its objects may be changed.
type View map[report.Object]Object

// Options of a store.
type Options struct {
	// Addresses gives Services their ClusterIPs.
	Addresses *Addresses
	// Now is the clock; time.Now where nil.
	Now func() time.Time
	// Mutate gives a pod that a user applies what admission gives it; nil leaves pods alone.
	Mutate func(View, *corev1.Pod) (*corev1.Pod, *report.Finding)
}

// Store holds the objects of a lab.
type Store struct {
	addresses *Addresses
	now       func() time.Time
	mutate    func(View, *corev1.Pod) (*corev1.Pod, *report.Finding)

	mu      sync.Mutex
	objects View
	applied View // what the user gave, to tell a change from a repetition
	version int64
	changed chan struct{}
}

// New gives an empty store.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{addresses: o.Addresses, now: o.Now, mutate: o.Mutate, objects: View{}, applied: View{}, changed: make(chan struct{})}
}

// KeyOf names an object; its TypeMeta must be set.
func KeyOf(o Object) report.Object {
	return report.Object{Kind: o.GetObjectKind().GroupVersionKind().Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// List gives the objects of one type, sorted by namespace and name.
func List[T Object](v View) []T {
	var out []T
	for _, k := range slices.SortedFunc(maps.Keys(v), report.Object.Compare) {
		if o, ok := v[k].(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// Get gives an object of the view.
func Get[T Object](v View, kind, namespace, name string) (T, bool) {
	o, ok := v[report.Object{Kind: kind, Namespace: namespace, Name: name}].(T)
	return o, ok
}

// View gives the present state, and a channel that is closed when it is no
// longer the present one.
func (s *Store) View() (View, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects), s.changed
}

// Version changes with every change.
func (s *Store) Version() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Put stores an object that the lab itself made: a new one gets a uid, the
// others keep theirs. The object must not be changed afterwards.
func (s *Store) Put(o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(o)
}

// Create is Put for objects that must not exist yet.
func (s *Store) Create(o Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[KeyOf(o)]; ok {
		return fmt.Errorf("%s exists", KeyOf(o))
	}
	s.put(o)
	return nil
}

// UpdatePod replaces a pod by what change makes of a copy. It does nothing
// where the pod is gone or is another one of the same name.
func (s *Store) UpdatePod(namespace, name string, uid types.UID, change func(*corev1.Pod)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.objects[report.Object{Kind: "Pod", Namespace: namespace, Name: name}].(*corev1.Pod)
	if !ok || p.UID != uid {
		return
	}
	c := p.DeepCopy()
	change(c)
	if same(p, c) {
		return
	}
	s.put(c)
}

// RemovePod takes a pod out that has ended.
func (s *Store) RemovePod(namespace, name string, uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := report.Object{Kind: "Pod", Namespace: namespace, Name: name}
	if p, ok := s.objects[k]; ok && p.GetUID() == uid {
		s.drop(k)
	}
}

// Remove takes an object out at once. Pods are ended first: see Delete.
func (s *Store) Remove(k report.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k)
}

// Delete removes an object as a user's delete does: a pod is marked and ends
// in its own time, a namespace takes along what is in it. It reports whether
// the object was there.
func (s *Store) Delete(k report.Object) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[k]; !ok {
		return false
	}
	if k.Kind == "Namespace" {
		for other := range s.objects {
			if other.Namespace == k.Name {
				s.end(other)
			}
		}
	}
	s.end(k)
	return true
}

func (s *Store) end(k report.Object) {
	p, ok := s.objects[k].(*corev1.Pod)
	if !ok {
		s.drop(k)
		return
	}
	if p.DeletionTimestamp != nil {
		return
	}
	c := p.DeepCopy()
	c.DeletionTimestamp = &metav1.Time{Time: s.now()}
	s.put(c)
}

func (s *Store) drop(k report.Object) {
	o, ok := s.objects[k]
	if !ok {
		return
	}
	if svc, ok := o.(*corev1.Service); ok {
		s.addresses.Release(svc.Spec.ClusterIPs)
	}
	delete(s.objects, k)
	delete(s.applied, k)
	s.version++
	s.notify()
}

func (s *Store) put(o Object) {
	k := KeyOf(o)
	if old, ok := s.objects[k]; ok {
		o.SetUID(old.GetUID())
		o.SetCreationTimestamp(old.GetCreationTimestamp())
	}
	if o.GetUID() == "" {
		o.SetUID(uuid.NewUUID())
	}
	if created := o.GetCreationTimestamp(); created.IsZero() {
		// Seconds only: this is what the file says.
		o.SetCreationTimestamp(metav1.Time{Time: s.now().UTC().Truncate(time.Second)})
	}
	if o.GetGeneration() == 0 {
		o.SetGeneration(1)
	}
	s.version++
	o.SetResourceVersion(strconv.FormatInt(s.version, 10))
	s.objects[k] = o
	s.notify()
}

func (s *Store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
