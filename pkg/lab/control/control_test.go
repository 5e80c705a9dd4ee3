package control

import (
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

// testPod reads "new ready", "old", "old ready ending", "new failed".
func testPod(name, text string, d *appsv1.Deployment) *corev1.Pod {
	words := map[string]bool{}
	var w string
	for rest := text; rest != ""; {
		n, _ := fmt.Sscan(rest, &w)
		if n == 0 {
			break
		}
		words[w] = true
		rest = rest[min(len(rest), len(w)+1):]
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{hashLabel: "old"}}}
	if words["new"] {
		p.Labels[hashLabel] = templateHash(d.Spec.Template)
	}
	if words["ready"] {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	if words["ending"] {
		p.DeletionTimestamp = &metav1.Time{}
	}
	if words["failed"] {
		p.Status.Phase = corev1.PodFailed
	}
	return p
}

func TestRollout(t *testing.T) {
	zero := intstr.FromInt32(0)
	for _, c := range []struct {
		name     string
		replicas int32
		recreate bool
		strategy *appsv1.RollingUpdateDeployment
		pods     []string
		create   int
		remove   []string
	}{
		{name: "from nothing", replicas: 3, create: 3},
		{name: "at rest", replicas: 2, pods: []string{"new ready", "new"}},
		{name: "scaled up", replicas: 3, pods: []string{"new ready"}, create: 2},
		{name: "scaled down: the unready one goes first", replicas: 1, pods: []string{"new ready", "new"}, remove: []string{"p1"}},
		{name: "scaled to none", replicas: 0, pods: []string{"new ready"}, remove: []string{"p0"}},
		{name: "a failed pod is replaced", replicas: 1, pods: []string{"new failed"}, create: 1, remove: []string{"p0"}},
		{name: "a pod that ends is replaced", replicas: 1, pods: []string{"new ready ending"}, create: 1},
		{name: "update starts with one more", replicas: 2, pods: []string{"old ready", "old ready"}, create: 1},
		{name: "an old one stays until the new one is ready", replicas: 2, pods: []string{"old ready", "old ready", "new"}},
		{name: "then it goes", replicas: 2, pods: []string{"old ready", "old ready", "new ready"}, remove: []string{"p0"}},
		{name: "and the next new one comes", replicas: 2, pods: []string{"old ready ending", "old ready", "new ready"}, create: 1},
		{name: "an old one that serves nobody goes at once", replicas: 1, pods: []string{"old"}, create: 1, remove: []string{"p0"}},
		{name: "no surge wanted: one goes first", replicas: 4, strategy: &appsv1.RollingUpdateDeployment{MaxSurge: &zero},
			pods: []string{"old ready", "old ready", "old ready", "old ready"}, remove: []string{"p0"}},
		{name: "recreate waits for the last one", replicas: 1, recreate: true, pods: []string{"old ready ending"}},
		{name: "recreate ends all first", replicas: 1, recreate: true, pods: []string{"old ready"}, remove: []string{"p0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &c.replicas}}
			d.Spec.Strategy.RollingUpdate = c.strategy
			if c.recreate {
				d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
			}
			var pods []*corev1.Pod
			for i, text := range c.pods {
				pods = append(pods, testPod(fmt.Sprintf("p%d", i), text, d))
			}
			create, remove := rollout(d, templateHash(d.Spec.Template), pods)
			if create != c.create || !slices.Equal(names(remove), c.remove) {
				t.Errorf("create %d, remove %v; want %d, %v", create, names(remove), c.create, c.remove)
			}
		})
	}
}

func names(pods []*corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func TestOrdered(t *testing.T) {
	two := int32(2)
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &two}}
	hash := templateHash(s.Spec.Template)
	pod := func(n int, hash string, ready bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("db-%d", n), Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: hash},
		}}
		if ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	for _, c := range []struct {
		name           string
		pods           []*corev1.Pod
		create, remove []string
	}{
		{name: "the first one", create: []string{"db-0"}},
		{name: "the second waits", pods: []*corev1.Pod{pod(0, hash, false)}},
		{name: "the second comes", pods: []*corev1.Pod{pod(0, hash, true)}, create: []string{"db-1"}},
		{name: "at rest", pods: []*corev1.Pod{pod(0, hash, true), pod(1, hash, true)}},
		{name: "scaled down", pods: []*corev1.Pod{pod(0, hash, true), pod(1, hash, true), pod(2, hash, true)}, remove: []string{"db-2"}},
		{name: "updated from the last", pods: []*corev1.Pod{pod(0, "old", true), pod(1, "old", true)}, remove: []string{"db-1"}},
		{name: "then the first", pods: []*corev1.Pod{pod(0, "old", true), pod(1, hash, true)}, remove: []string{"db-0"}},
		{name: "a broken old one is not waited for", pods: []*corev1.Pod{pod(0, "old", false)}, remove: []string{"db-0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			create, remove := ordered(s, c.pods)
			if !slices.Equal(names(create), c.create) || !slices.Equal(names(remove), c.remove) {
				t.Errorf("create %v, remove %v", names(create), names(remove))
			}
		})
	}
}

func TestWork(t *testing.T) {
	pods := func(phases ...corev1.PodPhase) []*corev1.Pod {
		var out []*corev1.Pod
		for _, ph := range phases {
			out = append(out, &corev1.Pod{Status: corev1.PodStatus{Phase: ph}})
		}
		return out
	}
	three, one := int32(3), int32(1)
	for _, c := range []struct {
		name       string
		spec       batchv1.JobSpec
		pods       []*corev1.Pod
		create     int
		over, well bool
	}{
		{name: "start", create: 1},
		{name: "running", pods: pods(corev1.PodRunning)},
		{name: "succeeded", pods: pods(corev1.PodSucceeded), over: true, well: true},
		{name: "again after a failure", pods: pods(corev1.PodFailed), create: 1},
		{name: "too many failures", spec: batchv1.JobSpec{BackoffLimit: &one}, pods: pods(corev1.PodFailed, corev1.PodFailed), over: true},
		{name: "no more side by side than are left", spec: batchv1.JobSpec{Completions: &three, Parallelism: &three},
			pods: pods(corev1.PodSucceeded, corev1.PodSucceeded), create: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			create, status := work(&batchv1.Job{Spec: c.spec}, c.pods)
			over, well := Finished(&batchv1.Job{Status: status})
			if create != c.create || over != c.over || well != c.well {
				t.Errorf("create %d, over %v, well %v", create, over, well)
			}
		})
	}
}

func TestOrphansEnd(t *testing.T) {
	yes := true
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{
		Name: "p", OwnerReferences: []metav1.OwnerReference{{UID: "gone", Controller: &yes}}}}
	a := Plan(store.View{store.KeyOf(p): p}, func() string { return "x" })
	if !slices.Equal(names(a.Delete), []string{"p"}) {
		t.Errorf("%+v", a)
	}
}

func TestPlanNamesPods(t *testing.T) {
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "accounts", UID: types.UID("d")},
	}
	a := Plan(store.View{store.KeyOf(d): d}, func() string { return "abcde" })
	if len(a.Create) != 1 {
		t.Fatalf("%+v", a)
	}
	p := a.Create[0]
	if p.Name != "accounts-"+p.Labels[hashLabel]+"-abcde" || Owner(p) != "deploy/accounts" || p.Namespace != "bank" {
		t.Errorf("%s owned by %s", p.Name, Owner(p))
	}
}
