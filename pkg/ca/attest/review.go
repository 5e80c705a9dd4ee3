package attest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/identity"
)

// The claims that TokenReview reports beside the user name.
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

// The bounds of what reviews cost the API server. A rollout of a thousand pods
// passes in 20 s; those beyond are told to come again, as agents do, with jitter.
const (
	allPerSecond, allBurst           = 50, 500
	identityPerSecond, identityBurst = 10, 100
	maxIdentities                    = 4096
	reviewTimeout                    = 5 * time.Second
	// remembered for so long is an answer: an agent that asks again because a
	// reply was lost costs nothing, nor does a refused one that keeps trying. No
	// longer, because a pod may be deleted meanwhile; the API server itself
	// remembers for 10 s.
	remembered    = 10 * time.Second
	maxRemembered = 8192
)

// TokenReviews of the API server; client-go's TokenReviewInterface has it.
type TokenReviews interface {
	Create(ctx context.Context, review *authenticationv1.TokenReview, opts metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// Reviewer is a Verifier whose answers the API server confirms: the account and
// the bound pod exist now, with these UIDs. It fails closed: without the API
// server nobody is attested. Certificates outlive that: agents renew them when
// four to six tenths of their life have passed, so that an outage of less than
// the other four tenths (24 min of 1 h) costs none.
type Reviewer struct {
	verifier *Verifier
	reviews  TokenReviews
	audience string
	clock    clock.Clock

	mu         sync.Mutex
	all        *rate.Limiter
	identities map[identity.ID]*rate.Limiter
	answers    map[[sha256.Size]byte]answer
}

// answer of a review: nil or a refusal.
type answer struct {
	refused error
	until   time.Time
}

// NewReviewer puts reviews behind a verifier.
func NewReviewer(v *Verifier, reviews TokenReviews) *Reviewer {
	return &Reviewer{
		verifier: v, reviews: reviews, audience: v.cfg.Audience, clock: v.cfg.Clock,
		all: rate.NewLimiter(allPerSecond, allBurst), identities: map[identity.ID]*rate.Limiter{}, answers: map[[sha256.Size]byte]answer{},
	}
}

// Attest gives the peer that a token proves. Only what passes the check without
// the API server is limited and sent to it: forged tokens cost nobody's share.
func (r *Reviewer) Attest(ctx context.Context, token string) (authn.Peer, error) {
	peer, claims, err := r.verifier.attest(ctx, token)
	if err != nil {
		return authn.Peer{}, err
	}
	key := sha256.Sum256([]byte(token))
	if a, ok := r.recall(key); ok {
		if a.refused != nil {
			return authn.Peer{}, a.refused
		}
		return peer, nil
	}
	if !r.admit(peer.Identity) {
		return authn.Peer{}, refusal.New(refusal.Busy, "too many tokens are to be reviewed; try again", "%s", peer.Identity)
	}
	refused, err := r.review(ctx, token, peer, claims)
	if err != nil {
		return authn.Peer{}, fmt.Errorf("token review: %w", err)
	}
	r.remember(key, answer{refused: refused, until: r.clock.Now().Add(remembered)})
	if refused != nil {
		return authn.Peer{}, refused
	}
	return peer, nil
}

// review asks the API server. refused is a *refusal.Error; err is its own or meshd's failure.
func (r *Reviewer) review(ctx context.Context, token string, peer authn.Peer, claims kubernetesClaims) (refused, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	out, err := r.reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	const wire = "the API server does not accept the token"
	st := out.Status
	if !st.Authenticated {
		return refusal.New(refusal.TokenRejected, wire, "%s of pod %s: %q", peer.Identity, peer.Pod, st.Error), nil
	}
	// An API server that knows no audiences would accept tokens that were made for others.
	if !slices.Contains(st.Audiences, r.audience) {
		return refusal.New(refusal.TokenAudience, wire, "reviewed for %q", st.Audiences), nil
	}
	for _, c := range []struct{ what, got, want string }{
		{"user", st.User.Username, subjectPrefix + peer.Identity.Namespace() + ":" + peer.Identity.ServiceAccount()},
		{"account UID", st.User.UID, claims.Kubernetes.ServiceAccount.UID},
		{"pod", first(st.User.Extra[extraPodName]), peer.Pod},
		{"pod UID", first(st.User.Extra[extraPodUID]), peer.PodUID},
		{"node", first(st.User.Extra[extraNodeName]), claims.Kubernetes.Node.Name},
	} {
		if c.got != c.want {
			return refusal.New(refusal.TokenRejected, "the API server says something else of the token than it does", "%s is %q, not %q", c.what, c.got, c.want), nil
		}
	}
	return nil, nil
}

func (r *Reviewer) recall(key [sha256.Size]byte) (answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers[key]
	return a, ok && r.clock.Now().Before(a.until)
}

func (r *Reviewer) remember(key [sha256.Size]byte, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxRemembered {
		now := r.clock.Now()
		for k, old := range r.answers {
			if !now.Before(old.until) {
				delete(r.answers, k)
			}
		}
	}
	if len(r.answers) < maxRemembered {
		r.answers[key] = a
	}
}

// admit takes from the identity's share first: one that asks too much does not use up everybody's.
func (r *Reviewer) admit(id identity.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	own := r.identities[id]
	if own == nil {
		if len(r.identities) >= maxIdentities {
			for other, l := range r.identities {
				if l.TokensAt(now) >= identityBurst { // a full share is as good as none
					delete(r.identities, other)
				}
			}
		}
		own = rate.NewLimiter(identityPerSecond, identityBurst)
		r.identities[id] = own
	}
	return own.AllowN(now, 1) && r.all.AllowN(now, 1)
}

func first(values authenticationv1.ExtraValue) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
