package status

import (
	"encoding/json"
	"reflect"
)

// encode gives a status as JSON; status types always encode.
func encode(st any) string {
	text, err := json.Marshal(st)
	if err != nil {
		return ""
	}
	return string(text)
}

// covers reports whether a status (both encoded) is what body says: equal, but for conditions
// of others beside those of body.
func covers(live, body string) bool {
	var has, want map[string]any
	if json.Unmarshal([]byte(live), &has) != nil || json.Unmarshal([]byte(body), &want) != nil {
		return false
	}
	theirs, ours := byType(has["conditions"]), byType(want["conditions"])
	for t, c := range ours {
		if !reflect.DeepEqual(theirs[t], c) {
			return false
		}
	}
	delete(has, "conditions")
	delete(want, "conditions")
	return reflect.DeepEqual(has, want)
}

func byType(conditions any) map[any]any {
	out := map[any]any{}
	list, _ := conditions.([]any)
	for _, c := range list {
		if fields, ok := c.(map[string]any); ok {
			out[fields["type"]] = fields
		}
	}
	return out
}
