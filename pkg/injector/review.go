package injector

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// podKind is all that the webhook is to be asked about.
var podKind = metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}

// answer decides one request. What is not let in is refused by the answer, and
// not by HTTP's status, so that it holds whatever the webhook's failurePolicy is.
func (h *webhook) answer(ctx context.Context, req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, Outcome) {
	if req.Kind != podKind || req.SubResource != "" || req.Operation != admissionv1.Create {
		return refusal(http.StatusBadRequest, metav1.StatusReasonBadRequest, fmt.Sprintf(
			"meshd takes pods (v1) at their creation, and was asked about %s of %s %s; correct the webhook's rules",
			req.Operation, req.Kind.Kind, req.SubResource)), BadReview
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return refusal(http.StatusBadRequest, metav1.StatusReasonBadRequest, "the pod cannot be read: "+err.Error()), BadReview
	}
	pod.Namespace = req.Namespace // the object's own is empty where the client has left it out
	cfg, ready := h.Config()
	if !ready {
		return refusal(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable,
			"meshd has not read the mesh's configuration yet, and lets no pod in until then; try again"), NotReady
	}
	out, d := h.inject(ctx, pod, cfg)
	err, patch := d.Err, []byte(nil)
	if d.Injected {
		patch, err = patchOf(pod, out)
	}
	if err != nil {
		h.Log.Error("injection failed", "namespace", req.Namespace, "pod", cmp.Or(pod.Name, pod.GenerateName), "error", err)
		return refusal(http.StatusInternalServerError, metav1.StatusReasonInternalError,
			"meshd cannot make the sidecar, and does not let the pod in without it: "+err.Error()), Failed
	}
	if d.Refused {
		return refusal(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, faults(d.Findings)), Refused
	}
	response := &admissionv1.AdmissionResponse{Allowed: true, Warnings: warnings(d.Findings)}
	if len(patch) == 0 {
		return response, outcomeOf(d)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response, Injected
}

func outcomeOf(d Decision) Outcome {
	if d.Injected {
		return Injected
	}
	return Unchanged
}

// inject looks again, at the namespace as the API server has it now, before it
// leaves a pod alone for which the API server has asked.
func (h *webhook) inject(ctx context.Context, pod *corev1.Pod, cfg Config) (*corev1.Pod, Decision) {
	ns, known := h.Namespaces.Namespace(pod.Namespace)
	if known {
		out, d := Inject(pod, ns, cfg)
		if d.Injected || d.Refused || d.Err != nil || h.Fetch == nil {
			return out, d
		}
	}
	if h.Fetch == nil {
		return nil, Decision{Err: fmt.Errorf("namespace %s is not known yet", pod.Namespace)}
	}
	ns, err := h.Fetch(ctx, pod.Namespace)
	if apierrors.IsNotFound(err) {
		return nil, Decision{Err: fmt.Errorf("there is no namespace %s", pod.Namespace)}
	}
	if err != nil {
		return nil, Decision{Err: fmt.Errorf("read namespace %s: %w", pod.Namespace, err)}
	}
	return Inject(pod, ns, cfg)
}

func refusal(code int32, reason metav1.StatusReason, message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}}
}

// faults is what makes a pod impossible: each with its field and cure.
func faults(findings []report.Finding) string {
	var out []string
	for _, f := range findings {
		if !f.Reason.Informs() {
			out = append(out, said(f))
		}
	}
	return strings.Join(out, "; ")
}

// warnings are shown by kubectl to who creates the pod itself.
func warnings(findings []report.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, "meshd: "+said(f))
	}
	return out
}

func said(f report.Finding) string {
	at := f.Field
	if f.Object.Kind != "Pod" {
		at = f.Object.String() + " " + at
	}
	return fmt.Sprintf("%s: %s (%s)", at, f.Message, f.Reason)
}
