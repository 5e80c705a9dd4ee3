package injector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// WebhookPath is where the API server posts its reviews.
	WebhookPath = "/inject"
	// maxReview in bytes: twice what an API server takes as one object (3 MiB),
	// and what an AdmissionReview says around it.
	maxReview = 7 << 20
	// maxInFlight bounds the reviews that are read and answered at a time, and
	// with maxReview the memory they can take.
	maxInFlight = 32
)

// Namespaces are those that meshd's sources hold.
type Namespaces interface {
	Namespace(name string) (*corev1.Namespace, bool)
}

// Reviews is told what became of each review, and how long it took.
type Reviews interface {
	Reviewed(outcome Outcome, took time.Duration)
}

// Outcome of a review.
type Outcome string

// The outcomes.
const (
	Injected  Outcome = "injected"
	Unchanged Outcome = "unchanged" // not wanted in the mesh, or left outside of it with a finding
	Refused   Outcome = "refused"   // the pod is at fault
	NotReady  Outcome = "not_ready" // meshd does not know its sources yet
	Failed    Outcome = "failed"    // meshd's own failure; the pod is refused
	BadReview Outcome = "bad_review"
)

// WebhookConfig is what the webhook stands on. Log and Reviews may be nil.
type WebhookConfig struct {
	// Config is what Inject gets; false while the sources are not known, when every pod is refused.
	Config     func() (Config, bool)
	Namespaces Namespaces
	// Fetch reads a namespace from the API server. It is asked for one that
	// Namespaces does not know yet, and before a pod is said to be none of the
	// mesh's: the API server, which has asked, may have seen a newer label.
	Fetch   func(ctx context.Context, name string) (*corev1.Namespace, error)
	Reviews Reviews
	Log     *slog.Logger
}

type webhook struct {
	WebhookConfig
	slots chan struct{}
}

// NewWebhook answers admission.k8s.io/v1 AdmissionReviews of pods that are
// being created, by Inject. It has no effect but its answer, so that a dry run
// is answered like any other. Whoever serves it should bound the time for
// reading a request.
func NewWebhook(c WebhookConfig) http.Handler {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	h := &webhook{WebhookConfig: c, slots: make(chan struct{}, maxInFlight)}
	mux := http.NewServeMux()
	mux.Handle(WebhookPath, h)
	return mux
}

// ServeHTTP answers what is no review by HTTP's own means (RFC 9110), which the
// API server takes as a failed call and treats by the webhook's failurePolicy.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	outcome, err := h.serve(w, r)
	if h.Reviews != nil {
		h.Reviews.Reviewed(outcome, time.Since(begin))
	}
	if err != nil {
		h.Log.Warn("injection webhook", "error", err)
	}
}

func (h *webhook) serve(w http.ResponseWriter, r *http.Request) (Outcome, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return Failed, fmt.Errorf("a review was given up before its turn: %w", r.Context().Err())
	}
	review, status, err := readReview(w, r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return BadReview, err
	}
	response, outcome := h.answer(r.Context(), review.Request)
	response.UID = review.Request.UID
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: reviewType, Response: response})
	if err != nil {
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return Failed, fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(body); err != nil {
		return outcome, fmt.Errorf("send the answer: %w", err)
	}
	return outcome, nil
}

var reviewType = metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}

// readReview gives an HTTP status beside its error.
func readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionReview, int, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, http.StatusMethodNotAllowed, fmt.Errorf("method %q: an AdmissionReview is posted", r.Method)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: an AdmissionReview is application/json", r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("an AdmissionReview of more than %d bytes is not read", maxReview)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("read the review: %w", err)
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("the review is not JSON: %w", err)
	}
	if review.TypeMeta != reviewType {
		return nil, http.StatusBadRequest, fmt.Errorf("%q %q: an AdmissionReview of admission.k8s.io/v1 is wanted", review.APIVersion, review.Kind)
	}
	if review.Request == nil {
		return nil, http.StatusBadRequest, errors.New("the review has no request")
	}
	return review, http.StatusOK, nil
}
