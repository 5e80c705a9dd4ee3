package cluster

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// assignLoadBalancers is the cloud of this cluster: every Service of type LoadBalancer
// gets an address that the host routes to the node, where kube-proxy takes it.
func (s *supervisor) assignLoadBalancers(ctx context.Context, client kubernetes.Interface) {
	next := loadBalancers.Addr()
	factory := informers.NewSharedInformerFactory(client, 0)
	assign := func(object any) {
		svc, ok := object.(*corev1.Service)
		if !ok || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || len(svc.Status.LoadBalancer.Ingress) > 0 {
			return
		}
		next = next.Next() // one goroutine calls all handlers of an informer's listener
		if !loadBalancers.Contains(next) {
			next = loadBalancers.Addr().Next()
		}
		svc = svc.DeepCopy()
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: next.String()}}
		if _, err := client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, "load balancer:", err) // a conflict comes again as an update
		}
	}
	_, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: assign, UpdateFunc: func(_, now any) { assign(now) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "load balancer:", err)
		return
	}
	factory.Start(ctx.Done())
}
