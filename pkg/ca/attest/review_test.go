package attest_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

// reviews answers as it is told, and counts.
type reviews struct {
	status authenticationv1.TokenReviewStatus
	err    error
	calls  int
}

func (r *reviews) Create(_ context.Context, in *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	r.calls++
	if r.err != nil {
		return nil, r.err
	}
	out := in.DeepCopy()
	out.Status = r.status
	return out, nil
}

// yes is what an API server says of catest's token.
func yes(namespace, account string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{attest.Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + namespace + ":" + account, UID: "sa-" + account,
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {account}, "authentication.kubernetes.io/pod-uid": {"uid-" + account},
			},
		},
	}
}

func reviewer(t *testing.T, api attest.TokenReviews) (*attest.Reviewer, *catest.Tokens, *clocktest.Fake) {
	t.Helper()
	clk := clocktest.New(time.Now())
	tokens := catest.NewTokens(t)
	v, err := attest.New(attest.Config{TrustDomain: catest.TrustDomain, Issuer: catest.Issuer, Keys: attest.Static{Set: tokens.JWKS()}, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	return attest.NewReviewer(v, api), tokens, clk
}

// TestReview: what the API server does not say, or says otherwise, is refused.
func TestReview(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*authenticationv1.TokenReviewStatus)
		want   refusal.Reason
	}{
		{"good", func(*authenticationv1.TokenReviewStatus) {}, ""},
		{"not authenticated", func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false }, refusal.TokenRejected},
		{"no audience", func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }, refusal.TokenAudience},
		{"another user", func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:admin" }, refusal.TokenRejected},
		{"another account of its name", func(s *authenticationv1.TokenReviewStatus) { s.User.UID = "sa-2" }, refusal.TokenRejected},
		{"no pod", func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }, refusal.TokenRejected},
		{"another pod of its name", func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra["authentication.kubernetes.io/pod-uid"] = authenticationv1.ExtraValue{"uid-2"}
		}, refusal.TokenRejected},
		{"another node", func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra["authentication.kubernetes.io/node-name"] = authenticationv1.ExtraValue{"node-2"}
		}, refusal.TokenRejected},
	} {
		api := &reviews{status: yes("shop", "accounts")}
		tc.change(&api.status)
		r, tokens, clk := reviewer(t, api)
		_, err := r.Attest(t.Context(), tokens.Token(t, "shop", "accounts", clk.Now()))
		if refusal.ReasonOf(err) != tc.want || (tc.want == "") != (err == nil) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestFailClosed: without the API server nobody is attested, and the failure is not remembered.
func TestFailClosed(t *testing.T) {
	api := &reviews{status: yes("shop", "accounts"), err: errors.New("connection refused")}
	r, tokens, clk := reviewer(t, api)
	token := tokens.Token(t, "shop", "accounts", clk.Now())
	if _, err := r.Attest(t.Context(), token); err == nil || refusal.ReasonOf(err) != "" {
		t.Errorf("API server away: %v, want a failure that is no refusal", err)
	}
	api.err = nil
	if _, err := r.Attest(t.Context(), token); err != nil {
		t.Errorf("API server back: %v", err)
	}
}

// TestReviewsAreRemembered for a short time, good ones and bad ones; what the
// offline check refuses is never sent.
func TestReviewsAreRemembered(t *testing.T) {
	for _, good := range []bool{true, false} {
		api := &reviews{status: yes("shop", "accounts")}
		api.status.Authenticated = good
		r, tokens, clk := reviewer(t, api)
		token := tokens.Token(t, "shop", "accounts", clk.Now())
		for range 20 {
			if _, err := r.Attest(t.Context(), token); (err == nil) != good {
				t.Fatal(err)
			}
		}
		if api.calls != 1 {
			t.Errorf("good %v: %d reviews", good, api.calls)
		}
		clk.Advance(10 * time.Second)
		_, _ = r.Attest(t.Context(), token)
		if api.calls != 2 {
			t.Errorf("good %v: an answer is remembered for more than 10 s", good)
		}
		if _, err := r.Attest(t.Context(), catest.NewTokens(t).Token(t, "shop", "accounts", clk.Now())); refusal.ReasonOf(err) != refusal.TokenSignature {
			t.Errorf("forged: %v", err)
		}
		if api.calls != 2 {
			t.Error("a forged token was reviewed")
		}
	}
}

// TestReviewsAreLimited: one identity that asks too much is told so before the
// API server is asked, others are served, and its share comes back.
func TestReviewsAreLimited(t *testing.T) {
	api := &reviews{status: yes("shop", "accounts")}
	r, tokens, clk := reviewer(t, api)
	ask := func(account string, i int) error {
		claims := catest.Claims("shop", account, clk.Now())
		claims["jti"] = strconv.Itoa(i) // a token of its own
		api.status = yes("shop", account)
		_, err := r.Attest(t.Context(), tokens.Sign(t, claims))
		return err
	}
	served := 0
	for i := range 150 {
		switch err := ask("accounts", i); {
		case err == nil:
			served++
		case refusal.ReasonOf(err) != refusal.Busy:
			t.Fatal(err)
		}
	}
	if served != 100 || api.calls != 100 {
		t.Errorf("%d served, %d reviews, want 100", served, api.calls)
	}
	if err := ask("loans", 0); err != nil {
		t.Errorf("another identity: %v", err)
	}
	clk.Advance(time.Second)
	if err := ask("accounts", 1000); err != nil {
		t.Errorf("a second later: %v", err)
	}
}
