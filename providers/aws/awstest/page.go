package awstest

import (
	"encoding/json"
	"net/url"
	"strconv"
)

// inPages asks moto for pages of n items, where it makes pages.
func inPages(c Call, body []byte, n int) []byte {
	key := map[string]string{"DescribeInstances": "MaxResults", "DescribeAutoScalingGroups": "MaxRecords"}[c.Action]
	form, err := url.ParseQuery(string(body))
	if key == "" || err != nil {
		return body
	}
	form.Set(key, strconv.Itoa(n))
	return []byte(form.Encode())
}

// lists are those that moto gives whole, whatever the size of a page: the names of
// the list and of the token.
var lists = map[string][2]string{
	"ListTasks": {"taskArns", "nextToken"}, "ListServices": {"Services", "NextToken"}, "ListNamespaces": {"Namespaces", "NextToken"},
}

// page cuts n items out of a whole list, from where the request's token says.
func (a *answer) page(c Call, request []byte, n int) {
	names, ok := lists[c.Action]
	if !ok {
		return
	}
	var in map[string]any
	var out map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(request, &in) != nil || json.Unmarshal(a.body, &out) != nil || json.Unmarshal(out[names[0]], &items) != nil {
		return // an error, which has no list
	}
	from := 0
	if token, is := in[names[1]].(string); is {
		from, _ = strconv.Atoi(token) // ours
	}
	to := min(from+n, len(items))
	list, err := json.Marshal(items[min(from, to):to])
	if err != nil {
		return
	}
	out[names[0]] = list
	if to < len(items) {
		out[names[1]] = json.RawMessage(strconv.Quote(strconv.Itoa(to)))
	}
	if body, err := json.Marshal(out); err == nil {
		a.body = body
	}
}
