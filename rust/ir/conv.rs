//! The geometry of convolutions and pools: which shapes fit together and what comes out. The arithmetic
//! is checked throughout, since sizes come from users. Nothing here computes a convolution.

use crate::bail;
use crate::core::{Result, Shape};

/// Cross-correlation over the two spatial axes of (N, C, H, W), PyTorch's `conv2d`. A convolution over
/// one axis has height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

/// Windows that slide over the two spatial axes of (N, C, H, W), PyTorch's `max_pool2d` and
/// `avg_pool2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    /// Distance between the elements of a window; averages know only 1.
    pub dilation: [usize; 2],
    /// Whether a window that reaches over the end of the padded input counts, so long as it starts
    /// within the input or the padding before it.
    pub ceil_mode: bool,
    /// Whether averages divide by the window's size with its padding or by what it holds of the input.
    pub count_include_pad: bool,
}

impl Conv2d {
    /// The shape of the convolution of `x` (N, C, H, W) with `w` (K, C/groups, R, S): (N, K, H', W')
    /// with `H' = ⌊(H + 2·padding − dilation·(R − 1) − 1) / stride⌋ + 1`. `op` names the caller in errors.
    pub fn output(&self, op: &str, x: &Shape, w: &Shape) -> Result<Shape> {
        let (&[n, c, height, width], &[k, per_group, r, s]) = (&x[..], &w[..]) else {
            bail!(
                Shape,
                "{op}: expected an input (N, C, H, W) and a weight (K, C/groups, R, S), got {x} and {w}"
            );
        };
        let Conv2d { stride, padding, dilation, groups } = *self;
        if groups == 0 {
            bail!(Value, "{op}: groups must be at least 1");
        }
        if c % groups != 0 || k % groups != 0 {
            bail!(
                Shape,
                "{op}: {c} input channels and {k} output channels do not divide into {groups} groups"
            );
        }
        if per_group != c / groups {
            bail!(
                Shape,
                "{op}: input has {c} channels, weight {w} with groups={groups} expects {}",
                per_group.saturating_mul(groups)
            );
        }
        let window = Window { op, input: x, kernel: [r, s], stride, padding, dilation };
        let [rows, columns] = window.places([height, width], false)?;
        Shape::checked(op, &[n, k, rows, columns])
    }
}

impl Pool2d {
    /// The shape of what the pool makes of `x` (N, C, H, W): (N, C, H', W'), as for a convolution but
    /// rounded up in ceil mode. `op` names the caller in errors.
    pub fn output(&self, op: &str, x: &Shape) -> Result<Shape> {
        let &[n, c, height, width] = &x[..] else {
            bail!(Shape, "{op}: expected an input (N, C, H, W), got {x}");
        };
        let Pool2d { kernel, stride, padding, dilation, ceil_mode, .. } = *self;
        if height == 0 || width == 0 {
            bail!(Shape, "{op}: input {x} has nothing to pool");
        }
        if (0..2).any(|i| padding[i] > kernel[i] / 2) {
            bail!(
                Value,
                "{op}: padding {} is more than half of the kernel {}",
                Shape::new(&padding),
                Shape::new(&kernel)
            );
        }
        let window = Window { op, input: x, kernel, stride, padding, dilation };
        let [rows, columns] = window.places([height, width], ceil_mode)?;
        Shape::checked(op, &[n, c, rows, columns])
    }
}

/// A window that slides over two axes.
struct Window<'a> {
    op: &'a str,
    input: &'a Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

impl Window<'_> {
    /// How many places the window takes along either axis of the given sizes.
    fn places(&self, sizes: [usize; 2], round_up: bool) -> Result<[usize; 2]> {
        let &Window { op, input, kernel, stride, padding, dilation } = self;
        for (name, values) in [("kernel size", kernel), ("stride", stride), ("dilation", dilation)] {
            if values.contains(&0) {
                bail!(Value, "{op}: {name} must be at least 1, got {}", Shape::new(&values));
            }
        }
        let mut places = [0; 2];
        for i in 0..2 {
            let reach = (kernel[i] - 1).checked_mul(dilation[i]).and_then(|d| d.checked_add(1));
            let padded = padding[i].checked_mul(2).and_then(|p| p.checked_add(sizes[i]));
            let (Some(reach), Some(padded)) = (reach, padded.filter(|&p| p <= isize::MAX as usize)) else {
                bail!(Value, "{op}: padding, dilation or kernel size is larger than the address space");
            };
            if padded < reach && !(round_up && reach - padded < stride[i]) {
                let reach = |i: usize| (kernel[i] - 1).saturating_mul(dilation[i]).saturating_add(1);
                let around = match padding {
                    [0, 0] => String::new(),
                    p => format!(" with padding {}", Shape::new(&p)),
                };
                bail!(
                    Shape,
                    "{op}: input {input}{around} is smaller than the dilated kernel {}",
                    Shape::new(&[reach(0), reach(1)])
                );
            }
            let whole = if padded < reach { 0 } else { (padded - reach) / stride[i] + 1 };
            // One more window hangs over the end, unless the last one meets it or the padding after the
            // input would be all that it has.
            let next = whole.saturating_mul(stride[i]);
            let hangs = next.saturating_add(reach) < padded.saturating_add(stride[i]);
            places[i] = whole + usize::from(round_up && hangs && next < sizes[i] + padding[i]);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Error;

    fn conv(stride: usize, padding: usize, dilation: usize, groups: usize) -> Conv2d {
        Conv2d { stride: [stride; 2], padding: [padding; 2], dilation: [dilation; 2], groups }
    }

    fn pool(kernel: usize, stride: usize, padding: usize, dilation: usize, ceil_mode: bool) -> Pool2d {
        let pair = |x| [x; 2];
        Pool2d {
            kernel: pair(kernel),
            stride: pair(stride),
            padding: pair(padding),
            dilation: pair(dilation),
            ceil_mode,
            count_include_pad: true,
        }
    }

    /// The number of windows by trying every place.
    fn count(
        size: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
        ceil: bool,
    ) -> usize {
        let (reach, end) = (dilation * (kernel - 1) + 1, size + 2 * padding);
        let whole = |at| at + reach <= end;
        // In ceil mode, also the first window that is not whole, if the one before did not end it all.
        let last = |at| ceil && at < size + padding && at + reach < end + stride;
        (0..).map(|i| i * stride).take_while(|&at| whole(at) || last(at)).count()
    }

    #[test]
    fn sizes_are_the_number_of_windows() {
        for size in 1..9 {
            for kernel in 1..4 {
                for stride in 1..4 {
                    for padding in 0..=2 {
                        for dilation in 1..3 {
                            let x = Shape::new(&[2, 3, size, size + 1]);
                            let w = Shape::new(&[5, 3, kernel, kernel]);
                            let got = conv(stride, padding, dilation, 1).output("conv2d", &x, &w);
                            let want = |size| count(size, kernel, stride, padding, dilation, false);
                            match got {
                                Ok(y) => assert_eq!(y[..], [2, 5, want(size), want(size + 1)]),
                                Err(_) => assert_eq!(want(size), 0),
                            }
                            for ceil in [false, true] {
                                let p = pool(kernel, stride, padding.min(kernel / 2), dilation, ceil);
                                let want = |size| count(size, kernel, stride, p.padding[0], dilation, ceil);
                                match p.output("pool", &x) {
                                    Ok(y) => {
                                        assert_eq!(y[..], [2, 3, want(size), want(size + 1)], "{p:?} {x}")
                                    }
                                    Err(_) => assert_eq!(want(size), 0),
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn ceil_mode_drops_windows_that_begin_in_the_padding_after() {
        // PyTorch: MaxPool2d(2, stride=3, ceil_mode=True) of 4 rows gives 2, of 3 rows 1.
        assert_eq!(pool(2, 3, 0, 1, true).output("p", &[1, 1, 4, 3].into()).unwrap()[..], [1, 1, 2, 1]);
        assert_eq!(pool(3, 2, 1, 1, true).output("p", &[1, 1, 4, 5].into()).unwrap()[..], [1, 1, 3, 3]);
        assert_eq!(pool(3, 2, 1, 1, false).output("p", &[1, 1, 4, 5].into()).unwrap()[..], [1, 1, 2, 3]);
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let message = |conv: Conv2d, x: &[usize], w: &[usize]| {
            conv.output("conv2d", &Shape::new(x), &Shape::new(w)).unwrap_err().to_string()
        };
        assert_eq!(
            message(conv(1, 0, 3, 1), &[8, 3, 5, 5], &[4, 3, 3, 3]),
            "conv2d: input (8, 3, 5, 5) is smaller than the dilated kernel (7, 7)"
        );
        assert_eq!(
            message(conv(1, 1, 9, 1), &[8, 3, 5, 50], &[4, 3, 3, 3]),
            "conv2d: input (8, 3, 5, 50) with padding (1, 1) is smaller than the dilated kernel (19, 19)"
        );
        assert_eq!(
            message(conv(1, 0, 1, 1), &[8, 3, 5, 5], &[16, 4, 3, 3]),
            "conv2d: input has 3 channels, weight (16, 4, 3, 3) with groups=1 expects 4"
        );
        assert_eq!(
            message(conv(1, 0, 1, 2), &[8, 3, 5, 5], &[16, 1, 3, 3]),
            "conv2d: 3 input channels and 16 output channels do not divide into 2 groups"
        );
        assert_eq!(
            message(conv(0, 0, 1, 1), &[8, 3, 5, 5], &[16, 3, 3, 3]),
            "conv2d: stride must be at least 1, got (0, 0)"
        );
        assert!(message(conv(1, 0, 1, 1), &[3, 5, 5], &[16, 3, 3, 3]).contains("(N, C, H, W)"));
        assert_eq!(
            pool(2, 2, 2, 1, false).output("max_pool2d", &[1, 1, 8, 8].into()).unwrap_err().to_string(),
            "max_pool2d: padding (2, 2) is more than half of the kernel (2, 2)"
        );
    }

    #[test]
    fn absurd_parameters_are_errors() {
        let (x, w) = (Shape::new(&[1, 1, 5, 5]), Shape::new(&[1, 1, 3, 3]));
        let huge = usize::MAX;
        for c in [conv(1, huge, 1, 1), conv(1, huge / 2, 1, 1), conv(1, 0, huge, 1), conv(1, huge / 4, 1, 1)]
        {
            assert!(c.output("conv2d", &x, &w).is_err());
        }
        assert!(conv(1, 0, 1, 0).output("conv2d", &x, &w).is_err());
        assert!(conv(1, 0, 1, huge).output("conv2d", &x, &w).is_err());
        assert_eq!(conv(huge, 0, 1, 1).output("conv2d", &x, &w).unwrap()[..], [1, 1, 1, 1]);
        let wide = Pool2d { stride: [huge; 2], ..pool(3, 1, 1, 1, true) };
        assert_eq!(wide.output("p", &x).unwrap()[..], [1, 1, 1, 1]);
        let big = conv(1, huge / 8, 1, 1).output("conv2d", &x, &w);
        assert!(matches!(big, Err(Error::Memory(_))), "{big:?}");
    }

    #[test]
    fn empty_batches_and_channels_are_fine() {
        let y = conv(1, 0, 1, 1).output("conv2d", &[0, 3, 5, 5].into(), &[4, 3, 3, 3].into()).unwrap();
        assert_eq!(y[..], [0, 4, 3, 3]);
        let y = conv(1, 0, 1, 1).output("conv2d", &[2, 0, 5, 5].into(), &[4, 0, 3, 3].into()).unwrap();
        assert_eq!(y[..], [2, 4, 3, 3]);
    }
}
