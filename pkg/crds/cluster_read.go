package crds

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/pkg/report"
)

// readPage is how many objects are asked for at once.
const readPage = 500

// ReadCluster reads a cluster once, as ClusterSource would, by lists alone. Left
// out are kinds that are not served (told but for those that nobody misses) and, where who asks may not list them,
// Secrets: without holds their names.
func ReadCluster(ctx context.Context, config *rest.Config) (snapshot *Snapshot, findings []report.Finding, without []string, err error) {
	api, err := client.New(config, client.Options{Scheme: shared().scheme})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cluster: %w", err)
	}
	snapshot = &Snapshot{}
	feeds := clusterFeeds()
	for _, f := range feeds {
		err := f.readAll(ctx, api)
		switch {
		case err == nil:
		case meta.IsNoMatchError(err) && f.optional, apierrors.IsNotFound(err) && f.optional:
		case meta.IsNoMatchError(err), apierrors.IsNotFound(err),
			apierrors.IsForbidden(err) && f.gvk == corev1.SchemeGroupVersion.WithKind("Secret"):
			without = append(without, f.gvk.Kind)
		default:
			return nil, nil, nil, fmt.Errorf("list every %s: %w", f.gvk.Kind, err)
		}
	}
	for _, f := range feeds {
		f.put(snapshot)
		for _, r := range f.rows {
			findings = append(findings, r.findings...)
		}
	}
	return snapshot, report.Sort(findings), without, nil
}

// readAll fills the rows with every object of the kind.
func (f *feed) readAll(ctx context.Context, api client.Client) error {
	pending := map[types.NamespacedName]client.Object{}
	for next := ""; ; {
		list, err := f.emptyList()
		if err != nil {
			return err
		}
		options := []client.ListOption{client.Limit(readPage), client.Continue(next)}
		if f.selector != nil {
			options = append(options, client.MatchingFieldsSelector{Selector: f.selector})
		}
		if err := api.List(ctx, list, options...); err != nil {
			return err
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return err
		}
		for _, item := range items {
			object, err := f.strip(item)
			if err != nil {
				return err
			}
			pending[client.ObjectKeyFromObject(object)] = object
		}
		if next = list.GetContinue(); next == "" {
			f.fill(pending)
			return nil
		}
	}
}

func (f *feed) emptyList() (client.ObjectList, error) {
	gvk := f.gvk.GroupVersion().WithKind(f.gvk.Kind + "List")
	if _, untyped := f.watch.(*unstructured.Unstructured); untyped {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		return list, nil
	}
	o, err := shared().scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	list, ok := o.(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("%s: %w", gvk.Kind, errUnexpected)
	}
	return list, nil
}
