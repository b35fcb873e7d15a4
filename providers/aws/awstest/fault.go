package awstest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// On lets a fault happen to some calls only.
func On(which func(Call) bool, f Fault) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request, c Call) bool {
		return which(c) && f(p, w, r, c)
	}
}

// Action chooses the calls of one action, Region those of one region.
func Action(name string) func(Call) bool { return func(c Call) bool { return c.Action == name } }

// Region chooses the calls to one region.
func Region(name string) func(Call) bool { return func(c Call) bool { return c.Region == name } }

// LaterPages chooses the calls for the second page of a list and those after it.
func LaterPages(c Call) bool { return c.Page }

// Refuse answers with an error in the form of the API's protocol: a code for the
// query protocol, one for JSON.
func Refuse(status int, query, jsonCode, message string) Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		write(w, status, query, jsonCode, message, c)
		return true
	}
}

func write(w http.ResponseWriter, status int, query, jsonCode, message string, c Call) {
	switch {
	case c.JSON:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Errortype", jsonCode)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":%q}`, jsonCode, message)
	case c.Service == "ec2":
		w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>0</RequestID></Response>`, query, message)
	default:
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>0</RequestId></ErrorResponse>`, query, message)
	}
}

// Throttled is what each API says to too many calls.
func Throttled() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		status, query, jsonCode := http.StatusBadRequest, "Throttling", "ThrottlingException"
		switch c.Service {
		case "ec2":
			status, query = http.StatusServiceUnavailable, "RequestLimitExceeded"
		case "servicediscovery":
			jsonCode = "RequestLimitExceeded"
		}
		write(w, status, query, jsonCode, "Rate exceeded", c)
		return true
	}
}

// Expired is what each API says to a session that has ended.
func Expired() Fault {
	return Refuse(http.StatusForbidden, "ExpiredToken", "ExpiredTokenException", "The security token included in the request is expired")
}

// Denied is what each API says to a missing permission.
func Denied() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		query := "AccessDenied"
		if c.Service == "ec2" {
			query = "UnauthorizedOperation"
		}
		write(w, http.StatusForbidden, query, "AccessDeniedException", "User is not authorized to perform "+c.Service+":"+c.Action, c)
		return true
	}
}

// Broken is a server that failed.
func Broken() Fault {
	return Refuse(http.StatusInternalServerError, "InternalError", "InternalServerException", "An internal error has occurred")
}

// Skewed refuses every call that was not signed by a clock that is ahead by d, as
// AWS does where the caller's clock is behind; the answers' dates tell.
func Skewed(d time.Duration) Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		now := time.Now().Add(d)
		if diff := now.Sub(c.Signed).Abs(); diff < 5*time.Minute {
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			return false
		}
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		write(w, http.StatusForbidden, "RequestTimeTooSkewed", "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", c)
		return true
	}
}

// SkewedWithoutDate refuses every call for its time, and does not tell the right
// one.
func SkewedWithoutDate() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		w.Header()["Date"] = nil
		write(w, http.StatusForbidden, "RequestTimeTooSkewed", "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", c)
		return true
	}
}

// CutConnection answers with half of the body and then closes the connection.
func CutConnection() Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request, _ Call) bool {
		a, err := p.ask(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		w.Header().Set("Content-Type", a.header.Get("Content-Type"))
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body[:len(a.body)/2])
		panic(http.ErrAbortHandler)
	}
}

// CutBody answers with half of the body as if it were whole: a proxy that gave up.
func CutBody() Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request, _ Call) bool {
		a, err := p.ask(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		a.body = a.body[:len(a.body)/2]
		a.write(w)
		return true
	}
}

// Nothing is a success without a body.
func Nothing() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, _ Call) bool {
		w.WriteHeader(http.StatusOK)
		return true
	}
}

// Hollow is a success that is well formed and has no member at all.
func Hollow() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		switch {
		case c.JSON:
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fmt.Fprint(w, "{}")
		case c.Service == "ec2":
			fmt.Fprintf(w, "<%[1]sResponse><requestId>0</requestId></%[1]sResponse>", c.Action)
		default:
			fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult></%[1]sResult></%[1]sResponse>", c.Action)
		}
		return true
	}
}

// Page is an answer that is none of AWS: a captive portal's, a proxy's.
func Page() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, _ Call) bool {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>"+strings.Repeat("please sign in ", 10)+"</body></html>")
		return true
	}
}

// Slow never answers.
func Slow() Fault {
	return func(_ *Proxy, _ http.ResponseWriter, r *http.Request, _ Call) bool {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
}

// Refused closes every connection without a word.
func Refused() Fault {
	return func(*Proxy, http.ResponseWriter, *http.Request, Call) bool { panic(http.ErrAbortHandler) }
}

// Old answers as moto did after Remember: a replica that lags. What was not asked
// then goes to moto.
func Old() Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request, _ Call) bool {
		body := bodyOf(r)
		p.mu.Lock()
		a := p.old[body]
		p.mu.Unlock()
		if a == nil {
			return false
		}
		a.write(w)
		return true
	}
}

// bodyOf reads a request's body and leaves it in place.
func bodyOf(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return ""
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

// Emptied is a success that is whole and lists nothing.
func Emptied() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, c Call) bool {
		list := map[string]string{
			"DescribeInstances": "<reservationSet/>", "DescribeAutoScalingGroups": "<AutoScalingGroups/>",
			"DescribeTargetGroups": "<TargetGroups/>", "DescribeTargetHealth": "<TargetHealthDescriptions/>",
			"ListTasks": `"taskArns":[]`, "ListServices": `"Services":[]`, "ListNamespaces": `"Namespaces":[]`,
			"DiscoverInstances": `"Instances":[],"InstancesRevision":99`,
		}[c.Action]
		switch {
		case list == "":
			return false
		case c.JSON:
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fmt.Fprintf(w, "{%s}", list)
		case c.Service == "ec2":
			fmt.Fprintf(w, "<%[1]sResponse><requestId>0</requestId>%[2]s</%[1]sResponse>", c.Action, list)
		default:
			fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", c.Action, list)
		}
		return true
	}
}

// NoTasks answers DescribeTasks for tasks that another answer has listed.
func NoTasks() Fault {
	return func(_ *Proxy, w http.ResponseWriter, _ *http.Request, _ Call) bool {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		fmt.Fprint(w, `{"tasks":[],"failures":[{"arn":"x","reason":"MISSING"}]}`)
		return true
	}
}
