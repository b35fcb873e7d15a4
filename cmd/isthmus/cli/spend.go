package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func newSpend() *cobra.Command {
	return reading("spend [SERVICE]", "Say what calls cost this month, and how budgets stand",
		`Say what the traffic of this cluster's callers is estimated to cost this month (UTC), by
service and by the cluster that serves it: payload times the prices of the price book
(federation.price_book), what the month is going to cost, and how budgets stand. Paths
without a price count as free, and are named.

PRICE is for a GB of requests and of answers, whichever side is billed for it.`, func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s takes at most one SERVICE, got %d arguments", c.CommandPath(), len(args))}
			}
			return nil
		},
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			var name catalog.ServiceName
			if len(args) == 1 {
				var err error
				if name, err = catalog.ParseServiceName(args[0]); err != nil {
					return nil, usageError{err}
				}
			}
			s, err := api.Spend(ctx, name)
			if err != nil {
				return nil, err
			}
			return &answer{Value: s, Rows: spendRows(s), Text: spendText(s)}, nil
		}, periodic)
}

func spendRows(s *resource.Spend) [][]string {
	rows := [][]string{{"SERVICE", "CLUSTER", "SENT", "RECEIVED", "PRICE", "SPENT", "ESTIMATE", "LAST MONTH", "BUDGET"}}
	for i := range s.Services {
		x := &s.Services[i]
		rows = append(rows, []string{
			x.Service.String(), "", "", "", "", money(x.Spent), money(x.Estimate), money(x.LastMonth), budgetText(x.Budget),
		})
		for _, p := range x.Paths {
			rows = append(rows, []string{
				"", string(p.Cluster), bytesText(float64(p.Sent)), bytesText(float64(p.Received)), priceText(p.Price), money(p.Spent), money(p.Estimate), "", "",
			})
		}
	}
	return rows
}

// money is an amount with as many digits as tell something.
func money(x float64) string {
	switch {
	case x == 0:
		return "$0"
	case x < 0.01:
		return fmt.Sprintf("$%.2g", x)
	default:
		return fmt.Sprintf("$%.2f", x)
	}
}

func bytesText(n float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.4g TB", n)
}

func priceText(p *route.Price) string {
	switch {
	case p == nil:
		return "-"
	case !p.Known:
		return "not known"
	default:
		return fmt.Sprintf("$%.4g out, $%.4g in", p.Out, p.In)
	}
}

func budgetText(b *resource.BudgetStanding) string {
	if b == nil {
		return "-"
	}
	text := fmt.Sprintf("%s of %s", b.State, money(b.Monthly))
	if b.Saving {
		text += fmt.Sprintf(", saving by %g s/$", b.PriceWeight)
	}
	return text
}

func spendText(s *resource.Spend) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, counted since %s: %s spent, %s expected at its end, %s in the month before\n",
		s.Month, s.Since.Format("2006-01-02 15:04 MST"), money(s.Spent), money(s.Estimate), money(s.LastMonth))
	if s.Total > len(s.Services) {
		fmt.Fprintf(&b, "! %d more services are not shown\n", s.Total-len(s.Services))
	}
	if book := s.Book; book != nil && book.Problem != "" {
		fmt.Fprintf(&b, "! price book %s: %s; %d prices of before are in force\n", book.Path, book.Problem, book.Prices)
	}
	for _, u := range s.Unknown {
		fmt.Fprintf(&b, "not known: %s\n", u)
	}
	return b.String()
}
