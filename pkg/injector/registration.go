package injector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	admissionapply "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	admissioninformers "k8s.io/client-go/informers/admissionregistration/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// The entries of the MutatingWebhookConfiguration. The chart makes the first
// two; DefaultEntry is meshd's, and there while MeshConfig says OptOut.
const (
	NamespaceEntry = "namespace.inject.meshd.io"
	PodEntry       = "pod.inject.meshd.io"
	DefaultEntry   = "default.inject.meshd.io"

	// registrationManager is the field manager of what Registration writes.
	registrationManager = "meshd-ca-bundle"

	retryFirst, retryMost = 200 * time.Millisecond, 30 * time.Second
)

// Registration keeps the MutatingWebhookConfiguration right: by which roots the
// API server knows meshd, and whether namespaces without a label are asked
// about. It writes by server-side apply, what it owns and no more, and only
// what differs. One replica runs it, the leader.
type Registration struct {
	Client kubernetes.Interface
	// Name of the configuration, and SystemNamespace, where nothing is injected: "" is meshd-system.
	Name, SystemNamespace string
	// Bundle is all roots by which the webhook may be known, in PEM: while they
	// rotate, the old and the new. Empty while there are none yet.
	Bundle func() []byte
	// OptOut is whether MeshConfig.spec.injection.default says so.
	OptOut func() bool
	// Changed tells that Bundle or OptOut may give something else.
	Changed <-chan struct{}
	Log     *slog.Logger
}

// Run works until ctx ends, whose end is no error. What somebody else has
// written, and a configuration that is made anew, is put right at once.
func (r *Registration) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMost))
	informer, err := r.watch(func() { queue.Add(r.Name) })
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { informer.RunWithContext(ctx) })
	running.Go(func() {
		defer queue.ShutDown()
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.Changed:
				queue.Add(r.Name)
			}
		}
	})
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil // ctx has ended
	}
	// What was just written comes by the watch later: until then it is known from here, and not written again.
	known := cache.NewIntegerResourceVersionMutationCacheWithOptions(klog.FromContext(ctx), informer.GetStore(), cache.MutationCacheOptions{MaxCacheSize: 1})
	queue.Add(r.Name) // its absence is no event
	absent := false
	for {
		name, ended := queue.Get()
		if ended {
			return nil
		}
		live, there, err := known.GetByKey(name)
		if err == nil && there {
			err = r.keep(ctx, live.(*admissionregistrationv1.MutatingWebhookConfiguration), known.Mutation)
		}
		if !there && !absent {
			r.Log.Warn("there is no MutatingWebhookConfiguration: nothing is injected until it is made", "name", name)
		}
		absent = !there
		if err != nil && ctx.Err() == nil {
			r.Log.Error("the webhook's configuration cannot be written; it is tried again", "name", name, "error", err)
			queue.AddRateLimited(name)
		} else {
			queue.Forget(name)
		}
		queue.Done(name)
	}
}

// watch calls changed on every event of the one object.
func (r *Registration) watch(changed func()) (cache.SharedIndexInformer, error) {
	informer := admissioninformers.NewFilteredMutatingWebhookConfigurationInformer(r.Client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, r.Name).String()
	})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	})
	if err != nil {
		return nil, fmt.Errorf("watch the webhook's configuration: %w", err)
	}
	return informer, nil
}

// keep writes what differs from live, and tells what it has written.
func (r *Registration) keep(ctx context.Context, live *admissionregistrationv1.MutatingWebhookConfiguration, written func(any)) error {
	bundle := r.Bundle()
	if len(bundle) == 0 {
		return nil
	}
	system := Config{SystemNamespace: r.SystemNamespace}.withDefaults().SystemNamespace
	byDefault, differs := registrationOf(live, bundle, r.OptOut(), system)
	if !differs { // as after nearly every change of the cluster
		return nil
	}
	wanted, err := registrationFor(live, bundle, byDefault)
	if err != nil {
		return err
	}
	now, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Apply(ctx, wanted,
		metav1.ApplyOptions{FieldManager: registrationManager, Force: true})
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	written(now)
	r.Log.Info("webhook configuration written", "name", r.Name, "entries", len(wanted.Webhooks))
	return nil
}

// registrationOf is the DefaultEntry that a configuration is to have, nil for none, and
// whether live differs from that or from the bundle.
func registrationOf(live *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte, optOut bool, system string) (
	byDefault *admissionregistrationv1.MutatingWebhook, differs bool,
) {
	var old *admissionregistrationv1.MutatingWebhook
	for i := range live.Webhooks {
		entry := &live.Webhooks[i]
		if entry.Name == DefaultEntry {
			old = entry
			continue
		}
		if entry.Name == NamespaceEntry && optOut {
			byDefault = defaultEntry(entry, bundle, system)
		}
		differs = differs || !bytes.Equal(entry.ClientConfig.CABundle, bundle)
	}
	return byDefault, differs || !equality.Semantic.DeepEqual(old, byDefault)
}

// registrationFor is what meshd owns of a configuration: the bundle of every
// entry, and the whole of DefaultEntry if there is to be one.
func registrationFor(live *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte, byDefault *admissionregistrationv1.MutatingWebhook) (
	*admissionapply.MutatingWebhookConfigurationApplyConfiguration, error,
) {
	wanted := admissionapply.MutatingWebhookConfiguration(live.Name)
	for i := range live.Webhooks {
		if name := live.Webhooks[i].Name; name != DefaultEntry {
			wanted.WithWebhooks(admissionapply.MutatingWebhook().WithName(name).
				WithClientConfig(admissionapply.WebhookClientConfig().WithCABundle(bundle...)))
		}
	}
	if byDefault != nil {
		var entry admissionapply.MutatingWebhookApplyConfiguration
		if err := convert(byDefault, &entry); err != nil {
			return nil, err
		}
		wanted.WithWebhooks(&entry)
	}
	return wanted, nil
}

// defaultEntry asks about the namespaces whose label decides nothing, as the
// chart's entry asks about those that are enabled. A pod's own label is for PodEntry.
func defaultEntry(like *admissionregistrationv1.MutatingWebhook, bundle []byte, system string) *admissionregistrationv1.MutatingWebhook {
	out := like.DeepCopy()
	out.Name = DefaultEntry
	out.ClientConfig.CABundle = bundle
	unlabelled := metav1.LabelSelectorRequirement{Key: InjectLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{enabled, disabled}}
	namespaces := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		unlabelled,
		{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: neverInjected(system)},
	}}
	if like.NamespaceSelector != nil {
		for _, e := range like.NamespaceSelector.MatchExpressions {
			if e.Key != InjectLabel && !slices.ContainsFunc(namespaces.MatchExpressions, func(f metav1.LabelSelectorRequirement) bool {
				return equality.Semantic.DeepEqual(e, f)
			}) {
				namespaces.MatchExpressions = append(namespaces.MatchExpressions, e)
			}
		}
	}
	out.NamespaceSelector = namespaces
	out.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{unlabelled}}
	return out
}

// neverInjected are the namespaces on which the cluster, and so the mesh, stands.
func neverInjected(system string) []string {
	return []string{metav1.NamespaceSystem, "kube-node-lease", metav1.NamespacePublic, system}
}

// convert reads an object as its apply configuration: their JSON is the same.
func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("encode an entry: %w", err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("read an entry: %w", err)
	}
	return nil
}
