// Package budget splits the budgets that the gateways of a cluster share: which part of a
// rate each gateway may use, so that all together keep to it without asking anybody on a
// call.
//
// Each report of a gateway says what it was asked for, as a part of the budget; the
// answer is its share, for a lease. Where all of them together want more than there is,
// shares are in proportion to what each wants: a call has the same chance at every
// gateway. Where they want less, each gets what it wants and an even part of what is
// left. A small even part (Floor of the budget in all) is for gateways that nobody has
// asked yet.
//
// A share only grows into what no other gateway holds: the others give up theirs with
// their next report first. So while the federation lives, the shares that are held are
// never more than the budget and the floor. The share of a gateway that is silent comes
// back when its lease has ended. What gateways do without an answer is theirs
// (gateway/flow): they keep what they hold, and at least an even part, so that all
// together use at most 2 - 1/N of a budget while the federation is gone. A gateway that
// alone is cut off goes on with its share beside the others, which have all of it again.
//
// The package is pure: time is an argument. Replicas of a federation hear the same
// reports and give nearly the same shares; a gateway follows the first that answers.
package budget
